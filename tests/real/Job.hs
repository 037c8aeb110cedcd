-- A job for tests/test_real_programs.sh: maps, arbitrary precision, threads, memory
-- from malloc, a signal handler of the run-time's (its timer).
module Main (main) where

import Control.Concurrent
import Control.Monad
import Data.List (foldl')
import qualified Data.Map.Strict as Map
import Foreign.Marshal.Alloc
import Foreign.Storable
import Foreign.Ptr
import System.Environment
import System.Exit

main :: IO ()
main = do
    [argument] <- getArgs
    let rounds = read argument :: Int
        add m i = Map.insertWith (+) (i * 7919 `mod` 1009) i m
        sums = foldl' add Map.empty [0 .. rounds - 1]
    print (Map.size sums, sum (Map.elems sums))
    putStrLn (take 40 (show (product [1 .. 500 :: Integer])))
    done <- newEmptyMVar
    forM_ [1 .. 4 :: Int] $ \n -> forkIO $ do
        total <- foldM (\s i -> allocaBytes (64 + i `mod` 500) $ \p -> do
            poke (castPtr p) (i + n)
            v <- peek (castPtr p) :: IO Int
            return $! s + v) 0 [1 .. rounds `div` 4]
        putMVar done total
    totals <- replicateM 4 (takeMVar done)
    print (sum totals)
    blocks <- forM [1 .. 500 :: Int] $ \i -> mallocBytes (i * 7) :: IO (Ptr Int)
    mapM_ free blocks
    exitWith (ExitFailure 11)
